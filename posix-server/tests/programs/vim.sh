# vim edits a file, by commands and by keys on a terminal of its own.
set -e
seq 1 100 > file
vim.tiny -u NONE -es -c '%s/^1$/one/' -c '50delete' -c 'normal Gofinal' -c 'wq' file
[ "$(wc -l < file)" = 100 ]
[ "$(head -n 1 file)" = one ]
[ "$(tail -n 1 file)" = final ]
# Typed, on a terminal that tmux makes.
export TERM=linux LC_ALL=C.UTF-8
echo first > typed
tmux -L test -f /dev/null new-session -d -x 80 -y 24 'vim.tiny -u NONE typed'
sleep 2
tmux -L test send-keys osecond Escape
sleep 1
tmux -L test send-keys :wq Enter
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(wc -l < typed)" = 2 ] && break
    sleep 0.5
done
[ "$(cat typed)" = "first
second" ]
tmux -L test kill-server || true
