"""Configuration: pydantic models, the single truth of every parameter."""
