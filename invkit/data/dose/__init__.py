"""Lower doses: noise in the image domain, and noise simulated on the rays of a scanner."""
