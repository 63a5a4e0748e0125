# tmux: a server, a session on a pseudo-terminal, keys sent to it, its screen read back.
set -e
export TERM=linux LC_ALL=C.UTF-8
tmux -L test -f /dev/null new-session -d -x 80 -y 24 /bin/sh
tmux -L test send-keys 'echo $((6 * 7)) > answer; tty > terminal; stty size > size' Enter
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -s size ] && break
    sleep 0.5
done
[ "$(cat answer)" = 42 ]
case $(cat terminal) in /dev/pts/*) ;; *) exit 1 ;; esac
[ "$(cat size)" = '23 80' ] || [ "$(cat size)" = '24 80' ]
tmux -L test split-window -t 0 /bin/sh
[ "$(tmux -L test list-panes | wc -l)" = 2 ]
tmux -L test send-keys -t 1 'echo visible' Enter
sleep 2
tmux -L test capture-pane -p -t 1 | grep -q '^visible'
tmux -L test kill-server
