"""Networks that learn: a probabilistic ensemble as the model, soft actor-critic as the agent. All float32."""
