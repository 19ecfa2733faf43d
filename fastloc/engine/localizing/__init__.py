"""The parts of the localizer: answers from pixels and texts, and what a model and a method choose by default."""
