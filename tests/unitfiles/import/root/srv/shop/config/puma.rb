workers 2
# port 1
port ENV.fetch("PORT") { 3000 }
bind 'unix:///run/rails/puma.sock'
bind "tcp://#{host}:1"
