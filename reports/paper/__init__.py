"""Tables of a paper: its rows with printed, counted, measured and predicted numbers side by side."""
