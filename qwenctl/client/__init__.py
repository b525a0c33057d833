"""What a person does with the endpoint: chat, check, bench, solve. Any OpenAI-compatible server will do."""
