"""Methods under the protocols of papers: data sets, protocols, metrics, runs that continue after an interruption, reports."""
