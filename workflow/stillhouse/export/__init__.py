"""Results for other tools: a distilled set for ``datasets``, an archive, TensorBoard files."""
