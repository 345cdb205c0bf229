-- Does: has a lock's lease begin again now, for its holder only. One that has run out is lost, even
--       where nobody has taken it since: others may have seen it free.
-- KEYS[1]: locks:{session}
-- ARGV[1]: name   ARGV[2]: agent   ARGV[3]: fencing token   ARGV[4]: lease in ms
-- ARGV[5]: how long a hash without locks is kept (ms)
-- Returns: JSON of the lock, or nil: it is not, or no longer, held by this claim
-- Errors:  none of its own
-- include: locks.lua
local locks, name = KEYS[1], ARGV[1]
local now_ms = redis_now_ms()
local lock = load_lock(locks, name)
if not is_held(lock, now_ms) or lock.agent ~= ARGV[2] or lock.fence ~= ARGV[3] then
  return false
end
lock.ends_at = now_ms + tonumber(ARGV[4])
save_lock(locks, name, lock)
keep_alive(locks, now_ms, lock.ends_at, tonumber(ARGV[5]))
return cjson.encode(lock)
