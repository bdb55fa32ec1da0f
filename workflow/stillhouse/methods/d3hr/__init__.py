"""D3HR: DDIM-inverted latents and group sampling."""
