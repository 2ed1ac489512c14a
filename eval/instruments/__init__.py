"""What measures: CLIP models, the judge of objects, features of pictures, what is controlled of a motion.

No generator ever learns from these.
"""
