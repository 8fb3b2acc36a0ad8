-- read_web_secret: what the status apps of all processes seal cursors with.

select secret from pgqueue.web_secret
