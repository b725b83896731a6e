"""Evaluation: functions of features, or of a backbone and images."""
