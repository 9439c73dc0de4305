# A shop that writes what it does to $LOG, a JSON object a line, and rotates it by renaming: $LOG.1 is the newest of three.
number=0
say() {
  number=$((number + 1))
  printf '{"time":"%s","level":"info","message":"%s","order":%d}\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" "$number" >> "$LOG"
  if [ "$(wc -c < "$LOG")" -ge "$ROTATE_BYTES" ]; then
    for age in 2 1; do
      if [ -e "$LOG.$age" ]; then mv "$LOG.$age" "$LOG.$((age + 1))"; fi
    done
    mv "$LOG" "$LOG.1"
  fi
}
trap 'say "the shop closes"; kill $! 2> /dev/null; exit 0' TERM
say "the shop opens"
while :; do
  say "an order is taken"
  sleep "$EVERY_S" &
  wait $!
done
