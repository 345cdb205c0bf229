-- Does: notes that a prefix's entry was not there. If it was seen since, that changes nothing.
-- KEYS[1]: the prefix's entry, a hash
-- ARGV[1]: as in warm.lua   ARGV[2]: how long ago the call began that did not find it, s
-- Returns: 1 if it was noted, else 0
-- Errors: none of its own
-- include: clock.lua
-- include: warm.lua
local entry, now = load_entry(KEYS[1]), redis_now()
local at = now - tonumber(ARGV[2])
if entry.seen_at > at and entry.seen_at <= now then
  return 0
end
entry.seen_at = 0
entry.gone_at = at
save_entry(KEYS[1], entry)
return 1
