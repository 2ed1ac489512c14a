"""What measures: CLIP models, the judge of objects, features of pictures. No generator ever learns from these."""
