"""Tables and figures: pure functions of the result files and the study."""
