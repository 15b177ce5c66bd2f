# Take what LISTEN_FDS gives and bind nothing else. Puma says READY=1 by itself (with the gem sd_notify).
bind_to_activated_sockets "only"
threads 8, 8
environment "production"
# A graceful end is no failure: exit status 0 on SIGTERM.
raise_exception_on_sigterm false
# Puma closes what it has accepted and not read yet when it ends: a few new connections at the end of a busy
# one. A proxy in front that asks again (nginx: proxy_next_upstream, for GET) hides it; supd cannot.
