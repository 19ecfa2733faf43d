// A line of words separated by commas, in which the word under the caret is completed from known names.

import { plain } from "./model.js";
import { element } from "./tiles.js";

const MOST = 7;

/** The words of a line, as they were typed, each once. */
export function words(line) {
  const typed = line.split(",").map((each) => each.trim()).filter(Boolean);
  return [...new Map(typed.map((each) => [plain(each), each])).values()];
}

/**
 * Makes an input complete its words, by keyboard and by pointer (the combobox pattern of ARIA).
 * @param {HTMLInputElement} input
 * @param {HTMLUListElement} list where suggestions are shown
 * @param {() => string[]} known every name there is
 * @param {() => void} done called after a word was completed
 */
export function completing(input, list, known, done) {
  const show = (listed) => {
    list.replaceChildren(...listed.map((name, i) => option(name, i)));
    list.hidden = !listed.length;
    input.ariaExpanded = String(listed.length > 0);
    input.removeAttribute("aria-activedescendant");
  };
  const accept = (name) => {
    const { start, end } = current(input);
    const before = `${input.value.slice(0, start)}${start ? " " : ""}${name}`;
    input.value = before + input.value.slice(end);
    input.setSelectionRange(before.length, before.length);
    show([]);
    done();
  };
  input.addEventListener("input", () => show(suggestions(current(input).text, known())));
  input.addEventListener("blur", () => show([]));
  input.addEventListener("keydown", (event) => {
    const chosen = list.querySelector("[aria-selected=true]");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") step(input, [...list.children], event.key === "ArrowDown" ? 1 : -1);
    else if (event.key === "Escape" && !list.hidden) show([]);
    else if ((event.key === "Enter" || event.key === "Tab") && chosen) accept(chosen.textContent);
    else return;
    event.preventDefault();
  });
  input.form.addEventListener("submit", () => show([]));
  // before the blur that would close the list
  list.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    if (event.target.role === "option") accept(event.target.textContent);
  });
}

/** The word under the caret: where it starts and ends in the line, and its text. */
function current({ value, selectionStart: caret }) {
  const start = caret ? value.lastIndexOf(",", caret - 1) + 1 : 0;
  const comma = value.indexOf(",", caret);
  const end = comma < 0 ? value.length : comma;
  return { start, end, text: plain(value.slice(start, end)) };
}

/** Names that begin with the text, then those with a word that does; none where the text is the only one. */
function suggestions(text, known) {
  if (!text) return [];
  const begins = known.filter((name) => plain(name).startsWith(text));
  const within = known.filter((name) => plain(name).includes(` ${text}`));
  const listed = [...new Set([...begins, ...within])].slice(0, MOST);
  return listed.length === 1 && plain(listed[0]) === text ? [] : listed;
}

function option(name, index) {
  return element("li", { id: `name-${index}`, role: "option", ariaSelected: "false", textContent: name });
}

/** Moves the choice; past either end there is none. */
function step(input, options, by) {
  const places = options.length + 1;
  const chosen = options.findIndex((each) => each.ariaSelected === "true");
  const next = ((chosen + 1 + by + places) % places) - 1;
  options.forEach((each, i) => (each.ariaSelected = String(i === next)));
  if (next < 0) input.removeAttribute("aria-activedescendant");
  else input.setAttribute("aria-activedescendant", options[next].id);
}
