"""The one loop for pre-training and continued pre-training."""
