"""Papers whose tables can be regenerated, one TOML file each (`visionbench.reports.paper.report` reads them)."""
