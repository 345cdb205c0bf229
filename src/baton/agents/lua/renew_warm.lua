-- Does: prolongs the lease of who writes a prefix's entry.
-- KEYS[1]: the prefix's entry, a hash
-- ARGV[1]: as in warm.lua   ARGV[2]: token of who writes   ARGV[3]: lease, s
-- Returns: 1, or 0 if somebody else writes it now, or nobody
-- Errors: none of its own
-- include: clock.lua
-- include: warm.lua
local entry = load_entry(KEYS[1])
if entry.warmer ~= ARGV[2] then
  return 0
end
entry.ends = redis_now() + tonumber(ARGV[3])
save_entry(KEYS[1], entry)
return 1
