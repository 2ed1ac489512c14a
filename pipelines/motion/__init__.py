"""Human motion: the skeleton, what a clip is described by, and the files that animators open."""
