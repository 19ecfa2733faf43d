"""The live page: what a camera sees, and the heat of each text over it, in a browser.

The files: `protocol`, `messages` and `settings` (what is said over the WebSocket), `limits`, `security` and `attempts` (who may say how
much), `outbox`, `session` and `scheduler` (who waits for whom), `method_pool` and `response` (from a frame to heat), `broadcast` (a source
that all clients share), `app` (routes and clients), `server` and `connections` (sockets, places and deadlines), `fault_log`, `page/` (what
runs in the browser).
"""
