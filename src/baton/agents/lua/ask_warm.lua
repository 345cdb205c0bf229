-- Does: says whether a prefix's entry is there, and if it is not, who writes it: of all who ask,
--       one at a time. Asked again by the one who writes, it answers the same.
-- KEYS[1]: the prefix's entry, a hash
-- ARGV[1]: as in warm.lua   ARGV[2]: token of who asks   ARGV[3]: life of an entry, s
-- ARGV[4]: lease of who writes, s   ARGV[5]: tries in a row   ARGV[6]: rest after them, s
-- Returns: 'ready' it is there; 'warm' write it, then run end_warm; 'wait' another writes it;
--          'unavailable' so many tries led to nothing that was read
-- Errors: none of its own
-- include: clock.lua
-- include: warm.lua
local token, lease = ARGV[2], tonumber(ARGV[4])
local entry, now = load_entry(KEYS[1]), redis_now()

-- What a clock that has since been set back noted for later says nothing.
local age = now - entry.seen_at
if age >= 0 and age < tonumber(ARGV[3]) then
  return 'ready'
end
local leased_for = entry.ends - now
if entry.warmer ~= '' and entry.warmer ~= token and leased_for > 0 and leased_for <= lease then
  return 'wait'
end

if entry.warmer ~= token then
  -- An entry that lived its time was no failure; a rest makes up for those there were.
  if entry.seen_at > 0 or leased_for > 0 or -leased_for >= tonumber(ARGV[6]) then
    entry.tries = 0
  end
  if entry.tries >= tonumber(ARGV[5]) then
    return 'unavailable'
  end
  entry.tries = entry.tries + 1
  entry.warmer = token
  entry.seen_at = 0
end
entry.ends = now + lease
save_entry(KEYS[1], entry)
return 'warm'
