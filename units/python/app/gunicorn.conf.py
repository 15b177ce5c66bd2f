# Import the application before READY=1 is said: a release that cannot be imported is never ready.
preload_app = True
workers = 2
worker_class = "gthread"    # finishes what it has accepted; "sync" does too, and keeps nothing alive
threads = 8
graceful_timeout = 30       # at SIGTERM: so long for requests under way
