-- Does: takes a lock that is free, under a new fencing token. Asked twice by one operation, answers
--       the same for as long as that holds it.
-- KEYS[1]: locks:{session}
-- ARGV[1]: name   ARGV[2]: agent   ARGV[3]: lease in ms   ARGV[4]: operation id
-- ARGV[5]: locks at most   ARGV[6]: how long a hash without locks is kept (ms)
-- Returns: {"taken", JSON}, {"held", JSON of the other's, now in ms}, or {"full", locks held}
-- Errors:  none of its own
-- include: locks.lua
local locks, name = KEYS[1], ARGV[1]
local now_ms = redis_now_ms()
local lock = load_lock(locks, name)
if is_held(lock, now_ms) then
  if lock.operation == ARGV[4] then
    return {'taken', cjson.encode(lock)}
  end
  return {'held', cjson.encode(lock), now_ms}
end
forget_free(locks, now_ms)
if not lock and redis.call('HLEN', locks) >= tonumber(ARGV[5]) then
  return {'full', redis.call('HLEN', locks)}
end
lock = {agent = ARGV[2], operation = ARGV[4], taken_at = now_ms, ends_at = now_ms + tonumber(ARGV[3]),
        fence = next_fence(lock)}
save_lock(locks, name, lock)
keep_alive(locks, now_ms, lock.ends_at, tonumber(ARGV[6]))
return {'taken', cjson.encode(lock)}
