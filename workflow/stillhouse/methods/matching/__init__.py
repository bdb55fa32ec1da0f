"""Distribution, gradient and trajectory matching on pixels."""
