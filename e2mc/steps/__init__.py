"""Each step of the workflow, with the function that makes its task.

A task is made from (study, run) and is all that its step is told; the step makes it again from the
study, which may have changed meanwhile, and compares. Rules and the command line make the same
tasks with the same functions; everything below works on tensors.
"""
