"""Methods under the protocols of papers: data sets, protocols, metrics, runs that go on where they were ended, reports."""
