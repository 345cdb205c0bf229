-- Does: notes that a prefix's entry was there: its life begins anew with each read. What is older
--       than the last that is known changes nothing.
-- KEYS[1]: the prefix's entry, a hash
-- ARGV[1]: as in warm.lua   ARGV[2]: how long ago, s
-- Returns: 1 if it was noted, else 0
-- Errors: none of its own
-- include: clock.lua
-- include: warm.lua
local entry, now = load_entry(KEYS[1]), redis_now()
local at = now - tonumber(ARGV[2])
local function is_later(noted)
  return noted > at and noted <= now
end
if is_later(entry.gone_at) or is_later(entry.seen_at) then
  return 0
end
entry.seen_at = at
entry.tries = 0
save_entry(KEYS[1], entry)
return 1
