"""Image encoders: the offline default, timm, Hugging Face, local folders."""
