"""Reports: tables, comparisons, plots and the page of evidence with every sample, its video, spans and masks."""
