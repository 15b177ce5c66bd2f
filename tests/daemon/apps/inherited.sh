#!/bin/sh
# A worker, or a command beside one, that writes down what /proc says of it, into FOLDER/NAME; then a
# worker stays. A shell, since it changes nothing of what it inherits: Python and Rust ignore SIGPIPE.
# What the shell reads by itself is closed to others.
set -eu
folder=$1/$2
mkdir "$folder.new"
for file in limits stat environ; do cat "/proc/$$/$file" > "$folder.new/$file"; done
# By the shell itself: it blocks every signal around each vfork(2), which another would see.
while IFS= read -r line; do printf '%s\n' "$line"; done < "/proc/$$/status" > "$folder.new/status"
for file in oom_score_adj timerslack_ns coredump_filter; do
    read -r value < "/proc/$$/$file"
    printf '%s\n' "$value" > "$folder.new/$file"
done
# Not redirected: the shell would keep what it redirects.
find "/proc/$$/fd" -type l -fprintf "$folder.new/fd" '%f -> %l\n'
mv "$folder.new" "$folder"
[ "$2" != worker ] || exec sleep 600
