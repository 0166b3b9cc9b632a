-- Claim a key for an owner, or learn who has it. The owner's own claim is renewed.
--
-- KEYS[1]   the claim
-- ARGV[1]   the owner
-- ARGV[2]   the claim's time to live in milliseconds
-- returns   the holder: the owner, or another
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return holder
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
