-- Shared by the lock scripts. A session's locks are one hash: name -> JSON {agent, fence, taken_at,
-- ends_at, operation}; times in ms by this server's clock. A lock whose `ends_at` has passed is free.
-- Fencing tokens of a name only rise: the next is one above the last, and never below the clock in
-- microseconds, so that a name which was forgotten does not begin again below a token that somebody
-- holds. They are stored as text, as cjson writes 14 digits of a number.
local FORGET_ABOVE = 100

local function redis_now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function redis_now_ms()
  return math.floor(redis_now_us() / 1000)
end

local function next_fence(lock)
  local last = lock and tonumber(lock.fence) or 0
  return string.format('%.0f', math.max(last + 1, redis_now_us()))
end

local function load_lock(locks, name)
  local stored = redis.call('HGET', locks, name)
  return stored and cjson.decode(stored) or nil
end

local function save_lock(locks, name, lock)
  redis.call('HSET', locks, name, cjson.encode(lock))
end

local function is_held(lock, now_ms)
  return lock ~= nil and lock.ends_at > now_ms
end

-- No lock outlives its lease by accident, and none is lost before it: the hash ends with the last.
local function keep_alive(locks, now_ms, ends_at, retention_ms)
  local left_ms = math.max(retention_ms, ends_at - now_ms, redis.call('PTTL', locks))
  redis.call('PEXPIRE', locks, string.format('%.0f', left_ms))
end

-- What is free, and would not lower its name's next token, is dropped where many have gathered.
local function forget_free(locks, now_ms)
  if redis.call('HLEN', locks) <= FORGET_ABOVE then
    return
  end
  local stored = redis.call('HGETALL', locks)
  for i = 1, #stored, 2 do
    local lock = cjson.decode(stored[i + 1])
    if lock.ends_at <= now_ms and tonumber(lock.fence) < redis_now_us() then
      redis.call('HDEL', locks, stored[i])
    end
  end
end
