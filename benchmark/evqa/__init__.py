"""Evidence-backed video question answering: what the task is, how it is asked, run, scored and shown."""
