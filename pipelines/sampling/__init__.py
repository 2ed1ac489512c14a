"""What pipelines that draw share: noise, the denoising loop, adapters."""
