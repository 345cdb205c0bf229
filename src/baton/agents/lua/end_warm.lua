-- Does: notes how the call that was to write a prefix's entry ended. A repeat changes nothing, nor
--       does one who lost the lease to another.
-- KEYS[1]: the prefix's entry, a hash
-- ARGV[1]: as in warm.lua   ARGV[2]: token of who wrote
-- ARGV[3]: 'warmed', 'failed', or 'left' if it says nothing of the next try
-- Returns: 1 if it was noted, else 0
-- Errors: none of its own
-- include: clock.lua
-- include: warm.lua
local ended = ARGV[3]
local entry = load_entry(KEYS[1])
if entry.warmer ~= ARGV[2] then
  return 0
end
entry.warmer = ''
entry.ends = redis_now()
if ended == 'warmed' then
  entry.seen_at = entry.ends
elseif ended == 'left' then
  entry.tries = math.max(0, entry.tries - 1)
end
save_entry(KEYS[1], entry)
return 1
