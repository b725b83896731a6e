"""Tables, figures and the report: functions of result files, without torch, data or checkpoints."""
