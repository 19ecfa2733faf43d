"""The live page: what a camera sees, and the heat of each text over it, in a browser.

The rooms: `protocol` and `settings` (what is said over the WebSocket), `limits` and `security` (who may say how much), `outbox`, `session`
and `engine` (who waits for whom), `methods` and `answer` (from a frame to heat), `hub` (a source that all clients share), `app` (the
server), `page/` (what runs in the browser).
"""
