"""The live page: a camera's picture and the heat of each text over it, in a browser.

The files: `protocol`, `messages` and `settings` (the messages over the WebSocket), `limits` (bounds of clients), `outbox`, `session` and
`scheduler` (queues between threads), `method_pool` and `response` (from a frame to heat), `broadcast` (a source that all clients share),
`app` (routes and clients), `guard_pages` (answers of the guard), `server` (the app in its server), `page/` (the code that runs in the
browser). Sockets, access and the log of faults are in `fastloc.web_server`.
"""
