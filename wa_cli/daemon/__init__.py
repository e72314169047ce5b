"""The long-running sender: the alarm clock around the send loop."""
