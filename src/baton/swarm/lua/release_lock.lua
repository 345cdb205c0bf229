-- Does: frees a lock, for its holder only.
-- KEYS[1]: locks:{session}
-- ARGV[1]: name   ARGV[2]: agent   ARGV[3]: fencing token
-- Returns: 1 if this claim held it until now, else 0
-- Errors:  none of its own
-- include: locks.lua
local locks, name = KEYS[1], ARGV[1]
local now_ms = redis_now_ms()
local lock = load_lock(locks, name)
if not is_held(lock, now_ms) or lock.agent ~= ARGV[2] or lock.fence ~= ARGV[3] then
  return 0
end
lock.ends_at = 0  -- kept for its token, until it may be forgotten
save_lock(locks, name, lock)
return 1
