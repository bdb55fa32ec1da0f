"""Rate-utility optimisation: images as latents and networks, coded in bitstreams."""
