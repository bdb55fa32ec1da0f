"""D4M: prototypes of latents."""
