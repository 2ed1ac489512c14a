"""The step loop that fitting and training share, and the folder that it leaves behind."""
