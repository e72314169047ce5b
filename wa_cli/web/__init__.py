"""The HTTP door: the API with the paths and shapes of the source systems, and the address that webhooks come to.

Nothing outside this room imports FastAPI, uvicorn or the Prometheus client, and no command but `wa serve` and
`wa run --serve` imports this room.
"""
