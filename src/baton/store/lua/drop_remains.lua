-- Does: drops content that stands beside the tombstone of an archived session, if that is still the
--       tombstone of that copy. What archive.lua is still clearing is left to it.
-- KEYS[1]: the session's base key
-- ARGV[1]: shelf   ARGV[2]: copy   ARGV[3...]: what stands behind the base key in their names
-- Returns: how many were dropped; -1 the session is here again, or its copy is another: none were
-- Errors:  none of its own
local base = KEYS[1]
local state, archived, shelf, copy, clearing =
  unpack(redis.call('HMGET', base, 'state', 'archived', 'shelf', 'copy', 'clearing'))
if state ~= 'live' or archived ~= '1' or shelf ~= ARGV[1] or copy ~= ARGV[2] or clearing then
  return -1
end
local dropped = 0
for i = 3, #ARGV do
  dropped = dropped + redis.call('UNLINK', base .. ARGV[i])
end
return dropped
