# shellcheck shell=bash
# Load on servers of the machine, by load.py in there (/opt). To be sourced after machine.bash.
#
#   load_begins NAME PORT PATH ENDS [CUT]   beside whatever else has begun; see load.py
#   serves_on                     returns once each of them has answered a hundred more
#   load_ends                     says how many were answered; one that was lost ends the test
# shellcheck disable=SC2016,SC2154 # what is in single quotes is for another shell; machine.bash has the rest

loads=()

load_begins() { # NAME PORT PATH ENDS [CUT]
    enter mkdir -p /run/load
    enter rm -f /run/load/stop
    enter sh -c 'echo 0 > "/run/load/$1.count"' sh "$1"
    inside python3 /opt/load.py "$@" > "$machine/load.$1" 2>&1 &
    loads+=("$1:$!")
}

answered() {
    enter cat "/run/load/$1.count"
}

has_answered() {
    [ "$(answered "$1")" -ge "$2" ]
}

# Every server has answered a hundred more since.
serves_on() {
    local one name
    [ "${#loads[@]}" != 0 ] || give_up "nobody is asked"
    for one in "${loads[@]}"; do
        name=${one%%:*}
        wait_for 60 "answers of $name" has_answered "$name" $(($(answered "$name") + 100))
    done
}

load_ends() {
    local one status=0
    enter touch /run/load/stop
    for one in "${loads[@]}"; do
        wait "${one##*:}" || status=1
        cat "$machine/load.${one%%:*}"
    done
    loads=()
    [ "$status" = 0 ] || give_up "requests were lost"
}
