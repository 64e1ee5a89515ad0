"""The page of a study, report.html."""
