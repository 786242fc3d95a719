"""The Harbor story on a pretrained chat model, SmolLM2-135M-Instruct."""
