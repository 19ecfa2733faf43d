"""The live page: a camera's picture and the heat of each text over it, in a browser.

The files: `protocol`, `messages` and `settings` (the messages over the WebSocket), `limits`, `security` and `attempts` (bounds of
clients, and access), `outbox`, `session` and `scheduler` (queues between threads), `method_pool` and `response` (from a frame to heat),
`broadcast` (a source that all clients share), `app` (routes and clients), `server` and `connections` (sockets, places and deadlines),
`fault_log`, `page/` (the code that runs in the browser).
"""
